"""What is kept between requests and shared by workers: accounts, keys, circuits, the ledger's rows."""
