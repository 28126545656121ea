"""The dossier of one decision: a folder or zip with a page for people, data for programs and proofs for verifiers.

`bundle` writes it, `page` is the page, `parts` its sections, `facts` what is read out of the auditor's answer.
"""
