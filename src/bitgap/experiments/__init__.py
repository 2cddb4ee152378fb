"""One experiment a file: question, measurement, rule of judgement. ``catalog`` lists them."""
