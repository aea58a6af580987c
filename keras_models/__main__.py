"""`python -m keras_models`: the command line."""

from keras_models.cli import main

main()
