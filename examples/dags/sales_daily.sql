INSERT OR REPLACE INTO daily_sales (day, region, orders, cents)
SELECT day, region, COUNT(*), SUM(cents)
FROM orders
WHERE day = :day
GROUP BY day, region;
