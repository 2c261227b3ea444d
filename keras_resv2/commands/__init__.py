"""The commands of keras-resv2: each module has the arguments of its commands, and what they do."""
