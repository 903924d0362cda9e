"""How agents perform: confirmed violations per agent, penalties, and the manner of service."""
