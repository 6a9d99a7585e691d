"""The portal: pages for people, rendered on the server over the same services as the API."""
