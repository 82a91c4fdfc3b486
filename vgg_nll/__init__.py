"""VGG-16 with a softmax head and two negative log-likelihoods, with its confidence on view."""
