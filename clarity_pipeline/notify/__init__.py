"""Sending notices to chats, mail and webhooks; the only user of Apprise."""
