"""What alembic runs to migrate, in the transaction that :mod:`coafi.database.migrate` has begun."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
