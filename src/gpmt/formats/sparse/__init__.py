"""The sparse file: kept values and coded masks in a safetensors container, specified in docs/format.md."""
