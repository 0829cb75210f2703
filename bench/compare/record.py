"""Everything that was measured, round by round, and the medians of it."""

import json
import statistics


class Record:
    """`loads` are runs of the load generator, `values` single figures, `examples` one request and answer each."""

    def __init__(self, about):
        self.about = about
        self.loads, self.values, self.examples = [], [], []

    def add_load(self, section, work, server, users, connections, number, result):
        self.loads.append(
            {
                "section": section,
                "work": work,
                "server": server,
                "users": users,
                "connections": connections,
                "round": number,
                **result,
            }
        )

    def add_value(self, section, what, server, value, unit, number=0):
        self.values.append(
            {"section": section, "what": what, "server": server, "round": number, "value": value, "unit": unit}
        )

    def add_example(self, section, server, status, body):
        self.examples.append(
            {
                "section": section,
                "server": server,
                "status": status,
                "bytes": len(body),
                "body": body[:700].decode(errors="replace"),
            }
        )

    def rows(self, section, **wanted):
        """The loads of a section without its warm-ups, which have the round -1."""
        return [
            row
            for row in self.loads
            if row["section"] == section
            and row["round"] >= 0
            and all(row[key] == value for key, value in wanted.items())
        ]

    def median(self, section, key="rate", **wanted):
        rows = self.rows(section, **wanted)
        return statistics.median(row[key] for row in rows) if rows else None

    def figures(self, section, what, server):
        return [
            row["value"]
            for row in self.values
            if (row["section"], row["what"], row["server"]) == (section, what, server)
        ]

    def median_value(self, section, what, server):
        figures = self.figures(section, what, server)
        return statistics.median(figures) if figures else None

    def put(self, newer):
        """Replaces its rows by those that a newer run has measured anew."""

        def kind(row):
            return row["section"], row.get("what")

        for part in ("values", "loads", "examples"):
            anew = {kind(row) for row in getattr(newer, part)}
            kept = [row for row in getattr(self, part) if kind(row) not in anew]
            setattr(self, part, kept + getattr(newer, part))
        sections = sorted({row["section"] for row in newer.values + newer.loads})
        run = {key: newer.about[key] for key in ("commit", "begun", "minutes")}
        self.about.setdefault("anew", []).append(run | {"sections": sections})

    def write(self, path):
        """JSON with a row a line: small, and a difference between two runs can be read."""
        parts = [f'"about": {json.dumps(self.about, indent=1)}']
        for name in ("values", "loads", "examples"):
            rows = ",\n".join(json.dumps(rounded(row)) for row in getattr(self, name))
            parts.append(f'"{name}": [\n{rows}\n]')
        path.write_text("{\n" + ",\n".join(parts) + "\n}\n")

    @classmethod
    def read(cls, path):
        document = json.loads(path.read_text())
        record = cls(document["about"])
        record.loads, record.values, record.examples = (document[name] for name in ("loads", "values", "examples"))
        return record


def rounded(row):
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
