CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY,
    day TEXT NOT NULL,
    region TEXT NOT NULL,
    product TEXT NOT NULL,
    cents INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS daily_sales (
    day TEXT NOT NULL,
    region TEXT NOT NULL,
    orders INTEGER NOT NULL,
    cents INTEGER NOT NULL,
    PRIMARY KEY (day, region)
);
CREATE TABLE IF NOT EXISTS stock (
    product TEXT PRIMARY KEY,
    pieces INTEGER NOT NULL,
    counted_on TEXT NOT NULL
);
