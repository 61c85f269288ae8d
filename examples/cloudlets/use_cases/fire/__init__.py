"""Forest fire: from a camera's event to an alarm in less than a second, and to an evacuation polygon in less than five."""
