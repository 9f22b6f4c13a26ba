"""The whole tree of a commit, as checks of single files need it: what is where, and what documents are called."""
