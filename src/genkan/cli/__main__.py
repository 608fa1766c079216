"""``python -m genkan.cli``, where no ``genkan`` command is installed: in a Bento."""

from genkan.cli import main

main()
