"""The bodies of the commands, one module for each word of the command line."""
