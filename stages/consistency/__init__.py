"""Acoustic consistency: do two short crops come from one recording? (paper, section 4.2)"""
