"""Where a PostgreSQL database is and how to get in: a ``postgresql://`` URL whose password is never shown."""

from dataclasses import dataclass, field

from coafi.errors import ValidationError

SCHEME = "postgresql://"


@dataclass(frozen=True)
class PostgresqlAddress:
    """The parameters of a connection. ``str`` and ``repr`` name host and database, and nothing else.

    Attributes:
        parameters: as libpq names them; see "Parameter Key Words" in PostgreSQL's documentation.
    """

    parameters: dict[str, str] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> "PostgresqlAddress":
        """The address that a URL says, as libpq reads it: several hosts, sockets and options too.

        Raises:
            ValidationError: it is not one, or names no database. The message does not repeat it.
        """
        if not url.startswith(SCHEME):
            scheme, found, _ = url.partition("://")
            what = f"starts with {scheme[:20]}://" if found and scheme.isalpha() else "is no URL"
            raise ValidationError(
                f"the database's URL {what}",
                remedy=f"give {SCHEME}user:password@host/database; leave it empty for the SQLite file in the home",
            )
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        try:
            parameters = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
        except (psycopg.Error, UnicodeError):  # the message may hold the password
            raise ValidationError(
                "the database's URL cannot be read",
                remedy=f"give {SCHEME}user:password@host/database, with special characters percent-encoded",
            ) from None
        if not parameters.get("dbname"):
            raise ValidationError("the database's URL names no database", remedy="end it with /database")
        return cls(parameters)

    def __str__(self) -> str:
        hosts = self.parameters.get("host", "localhost").split(",")
        ports = self.parameters.get("port", "5432").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        places = ",".join(f"{host}:{port}" for host, port in zip(hosts, ports, strict=False))
        return f"{self.parameters['dbname']} at {places}"
