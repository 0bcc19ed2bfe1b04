"""What an export holds: videos, arrays, and rows as stored or averaged over clips."""
