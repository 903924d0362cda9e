"""The labelling loop: what to label next, answers in, the store of labels, agreement."""
