"""The deployer: makes what is served equal to what is promoted.

A controller, level-based: events only record what is wanted; `domain` compares that with what the back end
observes and says which steps lead from one to the other; the reconciler takes them, again and again. Owns
`model_deployed`, `model_deployment_failed` and `model_undeployed`.
"""
