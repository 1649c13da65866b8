"""One self-contained page of HTML, drawn with Plotly in the reader's browser."""
