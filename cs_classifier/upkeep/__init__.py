"""Keep a deployment honest: suspected label errors, the rule ledger, the gate for new models."""
