"""`python -m lenet_lab`."""

from lenet_lab.cli import main

if __name__ == "__main__":
    main()
