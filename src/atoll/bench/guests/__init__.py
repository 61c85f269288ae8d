"""`atoll bench guests`: real guests on real networks: how soon they answer, what goes through between them, what it takes."""
