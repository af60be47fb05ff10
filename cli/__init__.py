"""What faces the shell: arguments, inputs, the record of an answer, failures and their exit codes."""
