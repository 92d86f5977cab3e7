"""Who writes down what is heard: one Judge interface; Whisper, CTC and RNN-T models behind it."""
