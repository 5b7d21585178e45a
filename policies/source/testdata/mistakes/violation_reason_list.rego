package eviction.x

warn contains {"reason": ["held"], "detail": {}}
