"""What the daemon notes for the verbs, by key; each note is JSON, and the last one counts."""

from __future__ import annotations

RELOAD, STALE = "reload", "stale"

NOTE = "SELECT value FROM meta WHERE key = :key"
KEEP_NOTE = "INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = :value"
