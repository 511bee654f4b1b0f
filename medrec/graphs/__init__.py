"""Graphs of records: who was given what at the visits that training sees."""
