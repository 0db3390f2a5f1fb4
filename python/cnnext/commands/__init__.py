"""What the command `cnnext` can do: a module each, with add(subparsers), which sets `run(options)`."""
