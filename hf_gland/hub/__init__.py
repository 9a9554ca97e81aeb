"""Publishing on the Hugging Face Hub: repositories staged in a folder, checked offline, and sent as one commit."""
