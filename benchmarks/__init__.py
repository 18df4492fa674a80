"""What measurements of the apps need."""
