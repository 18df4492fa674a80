"""What both apps serve beside uploads, written once: their OpenAPI description."""
