"""What the areas share: rows and verdict, the program under measurement, processes and their memory."""
