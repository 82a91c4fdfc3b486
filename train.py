"""Trains VGG-16: `python train.py loss=all_logit`. `python train.py --help` lists what can be set."""

import signal

if __name__ == "__main__":  # until a run has a state to save, Ctrl-C just ends the process
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from vgg_nll.cli.launch import main

if __name__ == "__main__":
    main()
