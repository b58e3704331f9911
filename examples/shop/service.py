"""
The shop as a process: `uvicorn examples.shop.service:app --workers 2`, and
`taskiq worker examples.shop.service:broker` for its worker, with SHOP_REDIS_URL for both.

`uvicorn examples.shop.suppliers:app --port 8001` is the service that it asks for prices. Needs fastapi, httpx,
aiosqlite, taskiq-redis and the extra taskiq.
"""

from examples.shop.containers import ShopContainer
from examples.shop.shop import make_app, make_broker

container = ShopContainer()
broker = make_broker(container)
app = make_app(container, broker)
