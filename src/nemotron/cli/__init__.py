"""The `nemotron` command."""
