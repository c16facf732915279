"""Reads an export as CSV and as Parquet by pyarrow and DuckDB, and checks values and types.

Usage: read_exports.py CSV PARQUET NAME CONTACT_ID
"""

import csv
import datetime
import sys

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

csv_file, parquet_file, name, contact = sys.argv[1:5]

UTC = datetime.timezone.utc
VALUES = {
    "hs_lead_name": name,
    "code": "007",
    "amount": 12.5,
    "is_new": True,
    "seen": datetime.datetime(2026, 1, 31, 12, 0, 0, 5000, tzinfo=UTC),
    "due": datetime.date(2026, 2, 28),
    "colors": ["RED", "BLUE"],
    "associations.contacts": [contact],
}

# Parquet by pyarrow.
table = pq.read_table(parquet_file)
history = pa.list_(
    pa.field(
        "element",
        pa.struct(
            [
                pa.field("value", pa.string()),
                pa.field("time", pa.timestamp("ms", tz="UTC")),
                pa.field("source_type", pa.string()),
                pa.field("source_id", pa.string()),
            ]
        ),
        nullable=False,
    )
)
types = {
    "id": pa.string(),
    "hs_lead_name": pa.string(),
    "code": pa.string(),
    "amount": pa.float64(),
    "is_new": pa.bool_(),
    "seen": pa.timestamp("ms", tz="UTC"),
    "due": pa.date32(),
    "colors": pa.list_(pa.field("element", pa.string(), nullable=False)),
    "create_time": pa.timestamp("ms", tz="UTC"),
    "update_time": pa.timestamp("ms", tz="UTC"),
    "associations.contacts": pa.list_(pa.field("element", pa.string(), nullable=False)),
    "history.code": history,
}
found = {field.name: field.type for field in table.schema}
assert list(found) == list(types), found
for column, expected in types.items():
    assert found[column] == expected, (column, found[column])
full, empty = table.to_pylist()
assert {column: full[column] for column in VALUES} == VALUES, full
assert [version["value"] for version in full["history.code"]] == ["007"], full
assert all(empty[column] is None for column in ["code", "amount", "is_new", "due", "colors"]), empty

# Parquet by DuckDB.
duck = duckdb.connect()
duck.execute("SET TimeZone = 'UTC'")
described = duck.execute("DESCRIBE SELECT * FROM read_parquet(?)", [parquet_file]).fetchall()
expected = {
    "id": "VARCHAR",
    "amount": "DOUBLE",
    "is_new": "BOOLEAN",
    "seen": "TIMESTAMP WITH TIME ZONE",
    "due": "DATE",
    "colors": "VARCHAR[]",
    "associations.contacts": "VARCHAR[]",
}
kinds = {row[0]: row[1] for row in described}
assert {column: kinds[column] for column in expected} == expected, kinds
row = duck.execute(
    "SELECT hs_lead_name, code, amount, is_new, epoch_ms(seen), due, colors, \"history.code\"[1].value "
    "FROM read_parquet(?) WHERE code IS NOT NULL",
    [parquet_file],
).fetchone()
millis = int(VALUES["seen"].timestamp() * 1000)
assert row == (name, "007", 12.5, True, millis, VALUES["due"], ["RED", "BLUE"], "007"), row

# CSV by Python, pyarrow and DuckDB: every value is text.
with open(csv_file, newline="", encoding="utf-8") as file:
    first = next(csv.DictReader(file))
assert (first["hs_lead_name"], first["code"]) == (name, "007"), first
text = pyarrow.csv.read_csv(
    csv_file,
    parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
    convert_options=pyarrow.csv.ConvertOptions(column_types={"code": pa.string()}),
)
assert text.column("hs_lead_name")[0].as_py() == name, text
assert text.column("code")[0].as_py() == "007", text
row = duck.execute(
    "SELECT hs_lead_name, code, colors FROM read_csv(?, all_varchar = true, header = true, quote = '\"')",
    [csv_file],
).fetchone()
assert row == (name, "007", "RED;BLUE"), row
print("exports: all as expected")
