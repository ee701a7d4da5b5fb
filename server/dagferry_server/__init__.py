"""The server: receives archives, checks and stores them, and serves bundles and patches to sidecars.

How a request goes through it: ``listeners`` → ``app`` (route, deployment, caller) → ``handlers`` → ``deploys`` →
``store``. ``service`` connects the parts; everything that blocks runs in threads.
"""
