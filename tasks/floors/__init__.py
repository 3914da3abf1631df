"""Rules that answer without a model, shared by exams: learned from train, or over pairs of documents."""
