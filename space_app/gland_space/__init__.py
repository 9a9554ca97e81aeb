"""The web demo, in parts: reading pictures, running the model, drawing results, annotating, and the page itself."""
