"""Publishing on the Hugging Face Hub: `python -m vqa.hub`."""
