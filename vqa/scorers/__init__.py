"""What a model says as a function of the pixels (or of word vectors), for `saliency.explain`."""
