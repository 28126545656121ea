"""How answers look to people: pure functions from the services' JSON to rich renderables."""
