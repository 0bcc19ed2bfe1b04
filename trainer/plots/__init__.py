"""Pictures and pages for people: timelines, maps, store overviews and reports."""
