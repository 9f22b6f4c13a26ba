"""The domain of COAFI Event Handlers: everything that can be tested without Temporal."""
