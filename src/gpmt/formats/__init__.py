"""Reading and writing files: checkpoints, masks, sparse files, and the files of other tools."""
