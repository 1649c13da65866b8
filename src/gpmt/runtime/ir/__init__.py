"""The graph of a network: values, operators, their table, and how a graph is stored."""
