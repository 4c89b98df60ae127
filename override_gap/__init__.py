"""override-gap: when a document-to-weights method fails to override what a model believes, is it a matter of magnitude?"""
