"""Parquet token shards: schema, provenance, reading, writing, partitioning and pipes."""
