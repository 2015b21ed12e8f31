"""What the package needs of this machine: its devices, files, memory, threads."""
