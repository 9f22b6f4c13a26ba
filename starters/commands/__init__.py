"""The groups of ``coafi``'s commands, one file for each kind of thing that they are about."""
