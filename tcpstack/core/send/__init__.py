"""The half that we speak: what to send, when, and when again."""
