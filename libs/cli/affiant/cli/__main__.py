"""`python -m affiant.cli`: the same as `affiant`, for where no script is on the path."""

from affiant.cli.app import main

if __name__ == "__main__":
    main()
